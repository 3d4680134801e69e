// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {MachineShares} from "./MachineShares.sol";

/**
 * @title A sale of shares at one price, up to a cap
 * @notice The shares stay with the seller until they are sold, and earn for it; the buyer's tokens go to the seller.
 *
 * Units: prices are units of the shares' income token for one whole share; times are Unix seconds.
 *
 * The terms say what the seller promises about the machine's agreement. No contract can check them: agreements are
 * records of the log, and the chain holds only digests of what follows from it. What stands behind them is this:
 * - here: they never change, {termsHash} covers them, and an offering whose lock ends before its term can't be made
 * - in the log: while an agreement is locked, every registration that lowers a payee's part is rejected, by rule, and
 *   whoever replays the log sees it
 * - in the tool: `tallyroot shares offer` and `tallyroot shares buy` refuse what the log does not show
 * A buyer who does not check the log trusts the seller for them.
 */
interface IShareOffering {
    // ------------------------------------------------------------------------------------------------- Types

    /**
     * @notice What the seller says that the log's agreement for the machine holds.
     * @param points basis points of the machine's income that the shares' contract is paid
     * @param termEnd the shares are promised these points until then
     * @param lockedUntil until then the log accepts no agreement that pays them less; not before `termEnd`
     * @param agreement digest of the agreement's payees in the log
     */
    struct Terms {
        uint16 points;
        uint64 termEnd;
        uint64 lockedUntil;
        bytes32 agreement;
    }

    // ------------------------------------------------------------------------------------------------- Events

    /// @notice The offering exists.
    event OfferingOpened(
        address indexed shares,
        address indexed seller,
        uint256 price,
        uint256 cap,
        uint256 closesAt,
        Terms terms,
        bytes32 termsHash
    );

    /// @notice `buyer` got `amount` shares for `cost`.
    event SharesBought(address indexed buyer, uint256 amount, uint256 cost);

    /// @notice The seller sells no more.
    event OfferingClosed(uint256 sold);

    // ------------------------------------------------------------------------------------------------- Errors

    /// @notice A share must cost something.
    error PriceZero();

    /// @notice The cap is 1 to the whole supply.
    error CapOutOfRange(uint256 cap, uint256 supply);

    /// @notice The sale must end in the future, and not after the term.
    error TimesInvalid(uint256 closesAt, uint256 termEnd);

    /// @notice The agreement pays 1 to 10,000 basis points.
    error PointsOutOfRange(uint256 points);

    /// @notice The agreement must be locked for the whole term.
    error LockTooShort(uint256 lockedUntil, uint256 termEnd);

    /// @notice The sale is over.
    error SaleOver();

    /// @notice The seller can't buy from itself: a sale that moves nothing would look like demand.
    error SellerBuys();

    /// @notice One buys a share at least.
    error AmountZero();

    /// @notice Only `left` shares are left to sell.
    error CapReached(uint256 amount, uint256 left);

    /// @notice It costs more than the buyer wants to pay.
    error CostTooHigh(uint256 cost, uint256 maxCost);

    /// @notice That is the seller's to do.
    error NotSeller(address account);

    // ------------------------------------------------------------------------------------------------- Selling

    /**
     * @notice Buys `amount` shares for the caller, who has approved `amount` x {price} of {token} to this contract.
     * @param maxCost the most to pay, token units: a slip in address or amount then costs nothing
     * @return cost token units
     */
    function buy(uint256 amount, uint256 maxCost) external returns (uint256 cost);

    /// @notice Ends the sale, for good. For the seller.
    function close() external;

    // ------------------------------------------------------------------------------------------------- Views

    /// @notice What is sold.
    function shares() external view returns (MachineShares);

    /// @notice What is paid: the shares' income token.
    function token() external view returns (IERC20);

    /// @notice Who sells; the shares are sold out of its balance, as far as it has approved them to this contract.
    function seller() external view returns (address);

    /// @notice Token units for one share.
    function price() external view returns (uint256);

    /// @notice The most shares that are sold.
    function cap() external view returns (uint256);

    /// @notice From then on nothing is sold.
    function closesAt() external view returns (uint256);

    /// @notice Shares sold so far.
    function sold() external view returns (uint256);

    /// @notice Shares that could be bought now.
    function available() external view returns (uint256);

    /// @notice What the seller promises.
    function terms() external view returns (Terms memory);

    /// @notice keccak256(abi.encode(TERMS_TYPEHASH, chain id, shares, keccak256 of the machine's id, the four terms)).
    function termsHash() external view returns (bytes32);
}
