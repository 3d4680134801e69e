// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {ISettlementLedger} from "./ISettlementLedger.sol";
import {ITransferPolicy} from "./ITransferPolicy.sol";

/**
 * @title Shares of a machine's income
 * @notice An ERC-20 of fixed supply. The contract is an ordinary payee of a ledger: what reaches its address is the
 * income of whoever holds the shares while it is released.
 *
 * Units: income is in units of the ledger's token; shares are whole (0 decimals); times are Unix seconds.
 *
 * Income is released over {RELEASE} from its arrival, evenly, whatever arrives before or after it. With A(t) for all
 * that had arrived at the time t, what is released is the mean of A over the last {RELEASE} seconds:
 * - released(t) = (F(t) - F(t - RELEASE)) / RELEASE, rounded down, where F is the integral of A
 * One who holds shares for a moment around a claim so gets a moment's part of it.
 *
 * What is released is shared by the shares held while it is released. A holder is owed
 * - owing = sum of (shares held x what was released meanwhile), in token units x supply
 * and can withdraw owing / supply, rounded down; the rest of the division stays the holder's. So
 * - sum of withdrawn + sum of withdrawable <= released <= received
 * and what is missing from the first equality is less than one token unit a holder.
 *
 * What a buyer has to know:
 * - Income arrives for this contract when it first sees it: in {sync}, {collect}, a transfer or a withdrawal. Anyone may
 *   call {sync}; until then nothing of it is released, and nothing is lost.
 * - Whoever sends tokens here gives them to the holders.
 * - The shares that the issuer has not sold earn like any others.
 * - What is not yet released goes with the shares: who buys them gets the part that is released from then on.
 * - The contract can't see the agreement that pays it; agreements live in the log. See {IShareOffering}.
 * - A contract that holds shares and can't call {withdraw} leaves its income here.
 * - Tokens that take fees or rebase are not supported: what arrives counts, but if a balance shrinks, the last holders to
 *   withdraw wait until it is made good.
 */
interface IMachineShares {
    // ------------------------------------------------------------------------------------------------- Events

    /// @notice `amount` of income arrived; `received` is all that ever did.
    event IncomeArrived(uint256 amount, uint256 received);

    /// @notice `holder` sent `amount` of income to `recipient`.
    event IncomeWithdrawn(address indexed holder, address indexed recipient, uint256 amount);

    // ------------------------------------------------------------------------------------------------- Errors

    /// @notice The supply is 1 to 2^64 - 1 shares.
    error SupplyOutOfRange(uint256 supply);

    /// @notice A machine has a name.
    error MachineNameEmpty();

    /// @notice Neither the zero address nor this contract can be paid, or hold shares of itself.
    error RecipientInvalid(address recipient);

    /// @notice Nothing is released for the holder that it has not withdrawn.
    error NothingToWithdraw(address holder);

    /// @notice The transfer policy refuses.
    error TransferRefused(address from, address to, uint256 amount);

    // ------------------------------------------------------------------------------------------------- Income

    /**
     * @notice Sends the caller's income to `recipient`: no other holder, and no transfer policy, has a say.
     * @return amount token units
     */
    function withdraw(address recipient) external returns (uint256 amount);

    /**
     * @notice Takes note of income that has arrived, so that its release begins. Anyone may call, at any time.
     * @return arrived token units that were not known before
     */
    function sync() external returns (uint256 arrived);

    /**
     * @notice Claims what the ledger owes to this contract, and takes note of it. Anyone may call; if somebody else has
     * claimed meanwhile, it only takes note.
     * @param sequence an active post of the ledger
     * @param cumulative all that this contract was ever owed, as in the post's leaf
     * @param proof siblings from the leaf up to the payouts root
     * @return arrived token units that were not known before
     */
    function collect(uint256 sequence, uint256 cumulative, bytes32[] calldata proof)
        external
        returns (uint256 arrived);

    // ------------------------------------------------------------------------------------------------- Views

    /// @notice Seconds over which income is released.
    function RELEASE() external view returns (uint256);

    /// @notice The ledger that pays this contract.
    function ledger() external view returns (ISettlementLedger);

    /// @notice The ledger's token, in which income is paid.
    function token() external view returns (IERC20);

    /// @notice Who is asked before a transfer; the zero address: nobody. It never changes.
    function policy() external view returns (ITransferPolicy);

    /// @notice The machine's id in the ledger's log. Its agreement, in the log, says whether it pays this contract.
    function machine() external view returns (string memory);

    /// @notice All income that has ever been noted.
    function received() external view returns (uint256);

    /// @notice The part of {received} that is released by now. Never falls.
    function released() external view returns (uint256);

    /// @notice The part of {released} that holders have withdrawn.
    function withdrawn() external view returns (uint256);

    /// @notice What `holder` could withdraw now.
    function withdrawable(address holder) external view returns (uint256);
}
