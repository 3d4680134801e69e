// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/**
 * @title Who may hold the shares of a machine
 * @notice Asked before every transfer of shares, sales included. It can refuse a transfer and nothing else: income that
 * a holder has earned can always be withdrawn.
 */
interface ITransferPolicy {
    /// @notice Whether `from` may send `amount` shares to `to`.
    function allows(address from, address to, uint256 amount) external view returns (bool);
}
