// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IMachineShares} from "./IMachineShares.sol";
import {ISettlementLedger} from "./ISettlementLedger.sol";
import {ITransferPolicy} from "./ITransferPolicy.sol";

/**
 * @title MachineShares
 * @notice See {IMachineShares}. What holds at all times: owing, over all holders, + withdrawn x supply = released x supply.
 */
contract MachineShares is IMachineShares, ERC20, ReentrancyGuardTransient {
    using SafeCast for uint256;
    using SafeERC20 for IERC20;

    // -------------------------------------------------------------------------------------- Constants, immutables

    /// @inheritdoc IMachineShares
    uint256 public constant RELEASE = 7 days;

    /// @inheritdoc IMachineShares
    ISettlementLedger public immutable ledger;

    /// @inheritdoc IMachineShares
    IERC20 public immutable token;

    /// @inheritdoc IMachineShares
    ITransferPolicy public immutable policy;

    /// @dev The supply, which never changes: read from the code instead of from storage.
    uint256 private immutable _supply;

    // ------------------------------------------------------------------------------------------------ Storage

    /// @dev One slot. `total` is all that had arrived from `time` on, `area` the integral of `total` up to `time`.
    struct Arrival {
        uint32 time;
        uint96 total;
        uint128 area;
    }

    /// @dev One slot. `owing` is in token units x supply, as of the moment when {released} was `released`.
    struct Holding {
        uint160 owing;
        uint96 released;
    }

    /// @dev By ascending time, no time twice.
    Arrival[] private _arrivals;

    mapping(address holder => Holding) private _holdings;

    /// @inheritdoc IMachineShares
    uint256 public withdrawn;

    /// @inheritdoc IMachineShares
    string public machine;

    // -------------------------------------------------------------------------------------------- Constructor

    /**
     * @param name_ the token's name
     * @param symbol_ the token's symbol
     * @param machine_ the machine's id in the ledger's log
     * @param ledger_ the ledger that will pay this contract
     * @param issuer who gets all shares
     * @param supply how many shares there are, for ever
     * @param policy_ who is asked before transfers; zero: nobody
     */
    constructor(
        string memory name_,
        string memory symbol_,
        string memory machine_,
        ISettlementLedger ledger_,
        address issuer,
        uint256 supply,
        ITransferPolicy policy_
    ) ERC20(name_, symbol_) {
        if (supply == 0 || supply > type(uint64).max) revert SupplyOutOfRange(supply);
        if (bytes(machine_).length == 0) revert MachineNameEmpty();

        ledger = ledger_;
        token = ledger_.token();
        policy = policy_;
        machine = machine_;
        _supply = supply;
        _mint(issuer, supply);
    }

    // ----------------------------------------------------------------------------------------------- External

    /// @inheritdoc IMachineShares
    function withdraw(address recipient) external nonReentrant returns (uint256 amount) {
        _requireRecipient(recipient);
        _takeNote();
        uint256 released_ = released();
        uint256 owing = _owing(msg.sender, released_);
        amount = owing / _supply;
        if (amount == 0) revert NothingToWithdraw(msg.sender);

        _write(msg.sender, owing - amount * _supply, released_);
        withdrawn += amount;

        token.safeTransfer(recipient, amount);

        emit IncomeWithdrawn(msg.sender, recipient, amount);
    }

    /// @inheritdoc IMachineShares
    function sync() external nonReentrant returns (uint256) {
        return _takeNote();
    }

    /// @inheritdoc IMachineShares
    function collect(uint256 sequence, uint256 cumulative, bytes32[] calldata proof)
        external
        nonReentrant
        returns (uint256)
    {
        if (ledger.claimedBy(address(this)) < cumulative) ledger.claim(address(this), sequence, cumulative, proof);
        return _takeNote();
    }

    // -------------------------------------------------------------------------------------------------- Views

    /// @inheritdoc IMachineShares
    function received() external view returns (uint256) {
        uint256 count = _arrivals.length;
        return count == 0 ? 0 : _arrivals[count - 1].total;
    }

    /// @inheritdoc IMachineShares
    function released() public view returns (uint256) {
        uint256 count = _arrivals.length;
        if (count == 0) return 0;
        Arrival memory last = _arrivals[count - 1];
        if (block.timestamp >= last.time + RELEASE) return last.total;
        return (_areaAt(last, block.timestamp) - _areaBefore(count - 1, block.timestamp - RELEASE)) / RELEASE;
    }

    /// @inheritdoc IMachineShares
    function withdrawable(address holder) external view returns (uint256) {
        return _owing(holder, released()) / _supply;
    }

    /// @notice 0: a share is whole. What it costs and what it earns then needs no rounding of shares.
    function decimals() public pure override returns (uint8) {
        return 0;
    }

    // ----------------------------------------------------------------------------------------------- Internal

    /**
     * @dev Every change of a balance passes here. Both sides are settled at what they held until now. The lock is for a
     * token that calls back: in the middle of a withdrawal what is being paid would look like income.
     */
    function _update(address from, address to, uint256 amount) internal override nonReentrant {
        _requireRecipient(to);
        if (from != address(0)) {
            if (address(policy) != address(0) && !policy.allows(from, to, amount)) {
                revert TransferRefused(from, to, amount);
            }
            _takeNote();
            uint256 released_ = released();
            _write(from, _owing(from, released_), released_);
            if (to != from) _write(to, _owing(to, released_), released_);
        }
        super._update(from, to, amount);
    }

    /// @dev What is here and what has left is what arrived. A balance that shrank counts as nothing new. Beyond 2^96 - 1
    /// units nothing is counted, so that no gift, however large, can stop withdrawals.
    function _takeNote() private returns (uint256 arrived) {
        uint256 total = Math.min(Math.saturatingAdd(token.balanceOf(address(this)), withdrawn), type(uint96).max);
        uint256 count = _arrivals.length;
        Arrival memory last;
        if (count != 0) last = _arrivals[count - 1];
        if (total <= last.total) return 0;

        arrived = total - last.total;
        if (last.time == block.timestamp) {
            _arrivals[count - 1].total = total.toUint96();
        } else {
            uint256 area = count == 0 ? 0 : _areaAt(last, block.timestamp);
            _arrivals.push(Arrival(block.timestamp.toUint32(), total.toUint96(), area.toUint128()));
        }

        emit IncomeArrived(arrived, total);
    }

    function _write(address holder, uint256 owing, uint256 released_) private {
        _holdings[holder] = Holding(owing.toUint160(), released_.toUint96());
    }

    /// @dev Below 2^160: shares are below 2^64, and what is released is below 2^96.
    function _owing(address holder, uint256 released_) private view returns (uint256) {
        Holding memory holding = _holdings[holder];
        return holding.owing + balanceOf(holder) * (released_ - holding.released);
    }

    /// @dev The integral up to `time`, which no later arrival precedes. Below 2^128: 2^96 units over 2^32 seconds.
    function _areaAt(Arrival memory arrival, uint256 time) private pure returns (uint256) {
        return arrival.area + arrival.total * (time - arrival.time);
    }

    /**
     * @dev The integral up to `time`, given one arrival that is later. Looks back from there in steps that double, then
     * halves: the cost is the logarithm of how many arrivals there were since `time`, not of how many there ever were.
     */
    function _areaBefore(uint256 later, uint256 time) private view returns (uint256) {
        uint256 notLater = 0; // All below this one are at or before `time`.
        for (uint256 step = 1; step <= later; step *= 2) {
            if (_arrivals[later - step].time <= time) {
                notLater = later - step + 1;
                break;
            }
            later -= step;
        }
        while (notLater < later) {
            uint256 middle = (notLater + later) / 2;
            if (_arrivals[middle].time <= time) notLater = middle + 1;
            else later = middle;
        }
        return notLater == 0 ? 0 : _areaAt(_arrivals[notLater - 1], time);
    }

    function _requireRecipient(address recipient) private view {
        if (recipient == address(0) || recipient == address(this)) revert RecipientInvalid(recipient);
    }
}
